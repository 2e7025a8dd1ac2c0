"""Tests that need a CUDA GPU. As a package, so that its conftest is not mistaken for that of the other tests."""
