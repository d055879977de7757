"""Where the rows of a conversion come from: files and folders of several forms, and two sets of answers joined."""
