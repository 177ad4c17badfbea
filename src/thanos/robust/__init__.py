"""From groups, given or discovered, to a model that serves the worst of them well."""
