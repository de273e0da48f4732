"""Training files: read line by line, checked, and rendered into the tokens that serving would see."""
