"""Set-up, the demo, and what runs the server elsewhere than on one machine."""
