"""Engine servers of our own: how one is started, watched, mended and ended; nothing here knows of Ray."""
