"""Training: recipes in YAML, tasks as plug-ins, runs that survive being killed."""
