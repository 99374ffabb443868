"""Extensions of one's own: groups, menus, conferences and dialplan, and the files beside them."""
