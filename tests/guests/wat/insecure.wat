;; A component that computes as long as a number says that the host calls insecure.
(component
  (import "wasi:random/insecure@0.2.0" (instance $random
    (export "get-insecure-random-u64" (func (result u64)))))
  (core func $draw (canon lower (func $random "get-insecure-random-u64")))
  (core module $one
    (import "random" "draw" (func $draw (result i64)))
    (func (export "run") (result i32)
      (local $left i64)
      (local.set $left (i64.and (call $draw) (i64.const 0xfffff)))
      (loop $more
        (local.set $left (i64.sub (local.get $left) (i64.const 1)))
        (br_if $more (i64.gt_s (local.get $left) (i64.const 0))))
      i32.const 0))
  (core instance $a (instantiate $one (with "random" (instance (export "draw" (func $draw))))))
  (func $run (result (result)) (canon lift (core func $a "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))
