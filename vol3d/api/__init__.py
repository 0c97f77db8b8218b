"""What `import vol3d as v` offers: models that answer with volumes, and each verb as a function."""
