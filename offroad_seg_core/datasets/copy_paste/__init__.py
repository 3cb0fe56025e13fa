"""Objects of rare classes, cut out of frames and pasted into others."""
