"""What a proof has shown, for people and for programs."""
