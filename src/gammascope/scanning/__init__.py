"""Many images: finding them, and scanning them one by one."""
