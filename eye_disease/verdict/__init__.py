"""From a profile to a verdict: rules, drift, performance and service, each held against its limit."""
