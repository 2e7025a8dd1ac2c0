"""What this package brings to adaptbench."""
