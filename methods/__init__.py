"""The shipped methods, one file each; `few_shot.py` defines `few-shot`."""
