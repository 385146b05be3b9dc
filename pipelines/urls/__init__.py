"""Lists of URLs become tars: img2dataset in an environment and processes of its own, never imported here."""
