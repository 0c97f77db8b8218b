"""Networks that bring one image into another's shape; the menu of all is `Registrar`."""
