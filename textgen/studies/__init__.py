"""What puts several of the rooms below together; one file a study."""
