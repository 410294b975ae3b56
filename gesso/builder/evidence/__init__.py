"""Evidence for an image: create, attach and verify its SBOM, provenance and signature."""
