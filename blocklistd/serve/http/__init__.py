"""The HTTPS server of the lists: authentication, live lists, files, and the listener that the control socket shares."""
