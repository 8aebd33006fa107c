"""Ways round Tollgate, a file a family. A way is a function that is marked with `way.way`."""
