"""Client of Credvault, a gRPC vault for the credentials that a voice platform lives on."""
