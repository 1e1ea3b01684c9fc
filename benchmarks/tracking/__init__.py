"""What a tracker makes of a network's answers: measured, fitted and stored with the weights."""
