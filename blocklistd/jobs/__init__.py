"""Work outside the event loop: one forkserver, a process a job, and a sandbox for those that read hostile bytes."""
