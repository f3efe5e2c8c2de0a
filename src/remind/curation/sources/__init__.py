"""Where videos come from: each module lists the items of one kind of source."""
