"""Teams: memberships, invitations, adoption of secrets, and moves to another wallet."""
