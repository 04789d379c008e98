"""What models there are, where their weights are, what was published of them."""
