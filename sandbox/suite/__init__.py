"""Images against what their manifests expect."""
