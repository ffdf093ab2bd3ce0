"""The release, as hosts report it and the API documents it."""

VERSION = "0.1.0"
