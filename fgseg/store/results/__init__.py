"""Reading a store: rows, results rebuilt from them, and exports."""
