"""`remind eval ...`: one file a suite, one function a file; joined into one command elsewhere."""
