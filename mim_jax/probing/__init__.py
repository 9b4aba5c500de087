"""What a frozen encoder knows: nearest neighbours and linear probes."""
