"""One module per kind of content, imported when a file of its kind comes: some bring large libraries with them."""
