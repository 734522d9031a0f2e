"""Speed claims, each measured beside its peers in one run: the commands `bench ...`."""
