"""Champion and challenger: two versions side by side, and whether to change over."""
