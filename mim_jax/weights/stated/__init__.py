"""What is said of a model beside its weights: by the user, by configurations beside the file, inside the file."""
