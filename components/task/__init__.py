"""What depends on the task, behind one small protocol for each side: a class for each photo, or one for each pixel."""
