;; A component of two parts that exchange text, for which wasmtime makes a module of two memories.
;; One of its own modules has two memories too, each of which grows until it is refused.
(component
  (component $measures
    (core module $measure (memory (export "memory") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
      (func (export "length") (param i32 i32) (result i32) (local.get 1)))
    (core instance $m (instantiate $measure))
    (func (export "length") (param "text" string) (result u32)
      (canon lift (core func $m "length") (memory (core memory $m "memory"))
        (realloc (core func $m "realloc")))))
  (instance $measures (instantiate $measures))
  (core module $library (memory (export "memory") 1) (data (i32.const 8) "text"))
  (core instance $l (instantiate $library))
  (core func $length (canon lower (func $measures "length") (memory (core memory $l "memory"))))
  (core module $main
    (import "measures" "length" (func $length (param i32 i32) (result i32)))
    (memory $a 1) (memory $b 1)
    (func (export "run") (result i32)
      (if (i32.ne (call $length (i32.const 8) (i32.const 4)) (i32.const 4)) (then unreachable))
      (loop $more (br_if $more (i32.ne (memory.grow $a (i32.const 1)) (i32.const -1))))
      (loop $more (br_if $more (i32.ne (memory.grow $b (i32.const 1)) (i32.const -1))))
      i32.const 1))
  (core instance $n (instantiate $main
    (with "measures" (instance (export "length" (func $length))))))
  (func $run (result (result)) (canon lift (core func $n "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))
