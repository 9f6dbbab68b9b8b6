"""Where models lie, how they load, and which are warm on the device."""
