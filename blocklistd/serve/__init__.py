"""The two servers of subscribers, HTTPS and DNS, and the bounds of connections that they share."""
