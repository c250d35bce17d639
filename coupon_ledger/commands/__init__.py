"""The commands, by what they are about; each calls one function elsewhere."""
