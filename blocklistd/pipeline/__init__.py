"""From a hotline to the subscribers, stage by stage: pull, settle, release, publish, zones."""
