"""Reading files of weights as data, without executing anything in them, and writing safetensors."""
