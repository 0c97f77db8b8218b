"""Files and text: read with care, written whole, locked while at work, shown as they are."""
