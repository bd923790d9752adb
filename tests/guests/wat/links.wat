;; Make a symbolic link and a hard link in /iexec_out; exit with 1 if one is made.
(module
  (import "wasi_snapshot_preview1" "path_symlink"
    (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link"
    (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $folder (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "own")
  (data (i32.const 8) "/etc/passwd")
  (data (i32.const 24) "link")
  (func (export "_start")
    ;; descriptor 4 is /iexec_out, so making a folder succeeds
    (if (call $folder (i32.const 4) (i32.const 0) (i32.const 3)) (then (call $exit (i32.const 2))))
    (if (i32.eqz (call $symlink (i32.const 0) (i32.const 3) (i32.const 4) (i32.const 24) (i32.const 4)))
      (then (call $exit (i32.const 1))))
    (if (i32.eqz (call $symlink (i32.const 8) (i32.const 11) (i32.const 4) (i32.const 24) (i32.const 4)))
      (then (call $exit (i32.const 1))))
    (if (i32.eqz (call $link (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 3)
                             (i32.const 4) (i32.const 24) (i32.const 4)))
      (then (call $exit (i32.const 1))))))
