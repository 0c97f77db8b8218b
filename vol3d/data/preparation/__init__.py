"""From a raw scan to a brain on the template's grid: mask, bias field, alignment, intensity, checks."""
