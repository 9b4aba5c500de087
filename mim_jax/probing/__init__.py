"""What a frozen encoder knows: nearest neighbours, logistic regression and trained heads."""
