;; Linked as componentize-py links CPython: libraries share one memory and one table, find their
;; places by imported globals, and call each other through the table; the adapter has a memory of
;; its own. Writes its input, and the length of JWT_KEY, which is below ten.
(component
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $error_))
    (export "input-stream" (type $in (sub resource)))
    (export "output-stream" (type $out (sub resource)))
    (type $failure_ (variant (case "last-operation-failed" (own $error_)) (case "closed")))
    (export "stream-error" (type $failure (eq $failure_)))
    (export "[method]input-stream.blocking-read"
      (func (param "self" (borrow $in)) (param "len" u64)
        (result (result (list u8) (error $failure)))))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $out)) (param "contents" (list u8))
        (result (result (error $failure)))))))
  (alias export $streams "input-stream" (type $input))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $input (type $input_))
    (export "input-stream" (type $in (eq $input_)))
    (export "get-stdin" (func (result (own $in))))))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $output_))
    (export "output-stream" (type $out (eq $output_)))
    (export "get-stdout" (func (result (own $out))))))

  (core module $env
    (memory (export "memory") 2)
    (table (export "__indirect_function_table") 2 funcref)
    (global (export "libc:memory_base") i32 (i32.const 4096))
    (global (export "libc:table_base") i32 (i32.const 1))
    (global (export "libpython:memory_base") i32 (i32.const 8192))
    (global (export "name") (mut i32) (i32.const 0)))
  (core instance $e (instantiate $env))

  (core module $libc
    (import "env" "memory" (memory 2))
    (import "env" "__indirect_function_table" (table 2 funcref))
    (import "env" "__memory_base" (global $base i32))
    (import "env" "__table_base" (global $slot i32))
    (data (global.get $base) "\00\00\01\00")  ;; where the heap goes on
    (elem (global.get $slot) func $realloc)
    (func $realloc (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.load (global.get $base)))
      (i32.store (global.get $base)
        (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
      (local.get $at)))
  (core instance $c (instantiate $libc (with "env" (instance
    (export "memory" (memory $e "memory"))
    (export "__indirect_function_table" (table $e "__indirect_function_table"))
    (export "__memory_base" (global $e "libc:memory_base"))
    (export "__table_base" (global $e "libc:table_base"))))))

  (core module $init  ;; tells each library where the others' data are
    (import "env" "libpython:memory_base" (global $base i32))
    (import "env" "name" (global $name (mut i32)))
    (func $start (global.set $name (i32.add (global.get $base) (i32.const 16))))
    (start $start))
  (core instance (instantiate $init (with "env" (instance $e))))

  (core module $adapter (memory 1)
    (func (export "set") (param i32) (i32.store (i32.const 8) (local.get 0)))
    (func (export "get") (result i32) (i32.load (i32.const 8))))
  (core instance $a (instantiate $adapter))

  (alias core export $e "memory" (core memory $memory))
  (alias core export $c "cabi_realloc" (core func $realloc))
  (core func $variables (canon lower (func $environment "get-environment")
    (memory $memory) (realloc $realloc) string-encoding=utf8))
  (core func $get_stdin (canon lower (func $stdin "get-stdin")))
  (core func $get_stdout (canon lower (func $stdout "get-stdout")))
  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory $memory) (realloc $realloc)))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $memory) (realloc $realloc)))

  (core module $libpython
    (import "env" "memory" (memory 2))
    (import "env" "__indirect_function_table" (table 2 funcref))
    (import "env" "__memory_base" (global $base i32))
    (import "GOT.mem" "name" (global $name (mut i32)))
    (import "adapter" "set" (func $set (param i32)))
    (import "adapter" "get" (func $get (result i32)))
    (import "wasi" "variables" (func $variables (param i32)))
    (import "wasi" "stdin" (func $stdin (result i32)))
    (import "wasi" "stdout" (func $stdout (result i32)))
    (import "wasi" "read" (func $read (param i32 i64 i32)))
    (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
    (type $malloc (func (param i32 i32 i32 i32) (result i32)))
    (data (global.get $base) "................JWT_KEY")
    (func (export "run") (result i32)
      (local $heap i32) (local $in i32) (local $text i32) (local $size i32)
      (local.set $heap
        (call_indirect (type $malloc) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16384)
          (i32.const 1)))
      (call $variables (local.get $heap))
      ;; one variable: the addresses and lengths of its name and value
      (if (i32.ne (i32.load offset=4 (local.get $heap)) (i32.const 1)) (then unreachable))
      (local.set $text (i32.load (local.get $heap)))
      (if (i64.ne
          (i64.shl (i64.load (i32.load (local.get $text))) (i64.const 8))
          (i64.shl (i64.load (global.get $name)) (i64.const 8))) (then unreachable))
      (call $set (i32.load offset=12 (local.get $text)))
      ;; the input, until its end
      (local.set $in (call $stdin))
      (local.set $text (i32.add (local.get $heap) (i32.const 64)))
      (loop $more
        (call $read (local.get $in) (i64.const 4096) (local.get $heap))
        (if (i32.eqz (i32.load8_u (local.get $heap))) (then
          (memory.copy (i32.add (local.get $text) (local.get $size))
            (i32.load offset=4 (local.get $heap)) (i32.load offset=8 (local.get $heap)))
          (local.set $size (i32.add (local.get $size) (i32.load offset=8 (local.get $heap))))
          (br $more))))
      (i32.store8 (i32.add (local.get $text) (local.get $size)) (i32.const 32))
      (i32.store8 offset=1 (i32.add (local.get $text) (local.get $size))
        (i32.add (call $get) (i32.const 48)))
      (call $write (call $stdout) (local.get $text)
        (i32.add (local.get $size) (i32.const 2)) (local.get $heap))
      (i32.load8_u (local.get $heap))))
  (core instance $p (instantiate $libpython
    (with "env" (instance
      (export "memory" (memory $e "memory"))
      (export "__indirect_function_table" (table $e "__indirect_function_table"))
      (export "__memory_base" (global $e "libpython:memory_base"))))
    (with "GOT.mem" (instance (export "name" (global $e "name"))))
    (with "adapter" (instance $a))
    (with "wasi" (instance
      (export "variables" (func $variables)) (export "stdin" (func $get_stdin))
      (export "stdout" (func $get_stdout)) (export "read" (func $read))
      (export "write" (func $write))))))
  (func $run (result (result)) (canon lift (core func $p "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))
