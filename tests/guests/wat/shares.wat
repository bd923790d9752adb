;; A component of four memories, each of which grows until it is refused; it ends badly.
(component
  (core module $one (memory 1)
    (func (export "run") (result i32)
      (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
      i32.const 1))
  (core module $all
    (import "a" "run" (func $a (result i32))) (import "b" "run" (func $b (result i32)))
    (import "c" "run" (func $c (result i32))) (import "d" "run" (func $d (result i32)))
    (func (export "run") (result i32)
      (i32.and (i32.and (call $a) (call $b)) (i32.and (call $c) (call $d)))))
  (core instance $a (instantiate $one)) (core instance $b (instantiate $one))
  (core instance $c (instantiate $one)) (core instance $d (instantiate $one))
  (core instance $e (instantiate $all (with "a" (instance $a)) (with "b" (instance $b))
    (with "c" (instance $c)) (with "d" (instance $d))))
  (func $run (result (result)) (canon lift (core func $e "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))
