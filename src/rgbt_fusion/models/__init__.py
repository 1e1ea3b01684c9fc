"""Networks: a pair of template and search images in, maps and boxes out."""
