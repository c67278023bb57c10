"""The verbs: generate, inpaint, edit, translate, explain, sweep."""
