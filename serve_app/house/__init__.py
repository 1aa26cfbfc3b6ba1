"""Starting and stopping the whole house: servers, Ray, ports, files, and who outlives whom."""
