"""Work outside the event loop: one forkserver, one process for each job, and a sandbox for hostile bytes."""
