package media

// Containers returns the file extensions that an output may have, the usual one
// first.
func Containers() []string { return []string{".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi"} }
