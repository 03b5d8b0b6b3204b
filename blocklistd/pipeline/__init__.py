"""From a hotline to the subscribers, stage by stage: pull, commit, release, publish, zones."""
