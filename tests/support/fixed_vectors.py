"""Fixed vectors, signed with public test keys; ids, digests and signatures were computed by another
implementation.

The wallet is the widely published first development account. The session key has the seed bytes 00
to 1f, the recipient's 20 to 3f.
"""

SESSION_DID = "did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd"
RECIPIENT_DID = "did:key:z6MkhFwXNFWosLeugvSf4wcL9t3uuRXueGSFTRgSvHhWj5G2"
HOST_DID = "did:key:z6MkrrUdGhJwgf5DoGAKzw52dwSg7gTgRjnKbybZZzfRCn1Z"
SESSION_JWK_X = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"

HOST_TEXT = (
    "app.example wants you to sign in with your Ethereum account:\n"
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n"
    "\n"
    "I further authorize the stated URI to perform the following actions on my behalf: (1)"
    " 'tinycloud.spa"
    "ce': 'host' for"
    " 'tinycloud:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266:default/space'.\n"
    "\n"
    "URI: did:key:z6MkrrUdGhJwgf5DoGAKzw52dwSg7gTgRjnKbybZZzfRCn1Z\n"
    "Version: 1\n"
    "Chain ID: 1\n"
    "Nonce: hostnonce0001\n"
    "Issued At: 2026-01-02T03:04:05.000Z\n"
    "Resources:\n"
    "- urn:recap:eyJhdHQiOnsidGlueWNsb3VkOnBraDplaXAxNTU6MToweGYzOUZkNmU1MWFhZDg4RjZGNGNlNmFCODgyNzI3OWNm"
    "ZkZiOTIyNjY6ZGVmYXVsdC9zcGFjZSI6eyJ0aW55Y2xvdWQuc3BhY2UvaG9zdCI6W3t9XX19LCJwcmYiOltdfQ"
)
HOST_DIGEST = "88a32ee2ee7bc1e07fb06cc30b7198024951ff43d768acb9eb4c1363771ff09d"
HOST_SIGNATURE = (
    "46667c1e0896431080fb6aa100a36ff66da2255fc6ae7caa42fd720fb339388e"
    "388bcdb33a2c9a953a20a6cc0d2f3d8f27731d0e277b9c7ac800d0dd2ab9b0851c"
)
HOST_CID = "bafkr4id5req453mxqcpr7k6gffoqtmu7gpogbla6ve7gl422zotxy6zi6i"
HOST_HEADER = (
    "o2FooWF0Z2VpcDQzNjFhcKhjYXVkeDhkaWQ6a2V5Ono2TWtyclVkR2hKd2dmNURvR0FLenc1MmR3U2c3Z1RnUmpuS2J5YlpaemZS"
    "Q24xWmNpYXR4GDIwMjYtMDEtMDJUMDM6MDQ6MDUuMDAwWmNpc3N4O2RpZDpwa2g6ZWlwMTU1OjE6MHhmMzlGZDZlNTFhYWQ4OEY2"
    "RjRjZTZhQjg4MjcyNzljZmZGYjkyMjY2ZW5vbmNlbWhvc3Rub25jZTAwMDFmZG9tYWlua2FwcC5leGFtcGxlZ3ZlcnNpb24BaXJl"
    "c291cmNlc4F4uHVybjpyZWNhcDpleUpoZEhRaU9uc2lkR2x1ZVdOc2IzVmtPbkJyYURwbGFYQXhOVFU2TVRvd2VHWXpPVVprTm1V"
    "MU1XRmhaRGc0UmpaR05HTmxObUZDT0RneU56STNPV05tWmtaaU9USXlOalk2WkdWbVlYVnNkQzl6Y0dGalpTSTZleUowYVc1NVky"
    "eHZkV1F1YzNCaFkyVXZhRzl6ZENJNlczdDlYWDE5TENKd2NtWWlPbHRkZlFpc3RhdGVtZW50eMZJIGZ1cnRoZXIgYXV0aG9yaXpl"
    "IHRoZSBzdGF0ZWQgVVJJIHRvIHBlcmZvcm0gdGhlIGZvbGxvd2luZyBhY3Rpb25zIG9uIG15IGJlaGFsZjogKDEpICd0aW55Y2xv"
    "dWQuc3BhY2UnOiAnaG9zdCcgZm9yICd0aW55Y2xvdWQ6cGtoOmVpcDE1NToxOjB4ZjM5RmQ2ZTUxYWFkODhGNkY0Y2U2YUI4ODI3"
    "Mjc5Y2ZmRmI5MjI2NjpkZWZhdWx0L3NwYWNlJy5hc6Jhc1hBRmZ8HgiWQxCA-2qhAKNv9m2iJV_GrnyqQv1yD7M5OI44i82zOiya"
    "lTogpswNLz2PJ3MdDid7nHrIANDdKrmwhRxhdGZlaXAxOTE="
)

SESSION_TEXT = (
    "app.example wants you to sign in with your Ethereum account:\n"
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n"
    "\n"
    "I further authorize the stated URI to perform the following actions on my behalf: (1)"
    " 'tinycloud.cap"
    "abilities': 'read' for"
    " 'tinycloud:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266:default/ca"
    "pabilities/all'. (2) 'tinycloud.kv': 'del', 'get', 'list', 'metadata', 'put' for"
    " 'tinycloud:pkh:eip1"
    "55:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266:default/kv'.\n"
    "\n"
    "URI: did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd#z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQ"
    "dcjqSJgvVd\n"
    "Version: 1\n"
    "Chain ID: 1\n"
    "Nonce: sessnonce0001\n"
    "Issued At: 2026-01-02T03:04:05.000Z\n"
    "Expiration Time: 2036-01-02T03:04:05.000Z\n"
    "Resources:\n"
    "- urn:recap:eyJhdHQiOnsidGlueWNsb3VkOnBraDplaXAxNTU6MToweGYzOUZkNmU1MWFhZDg4RjZGNGNlNmFCODgyNzI3OWNm"
    "ZkZiOTIyNjY6ZGVmYXVsdC9jYXBhYmlsaXRpZXMvYWxsIjp7InRpbnljbG91ZC5jYXBhYmlsaXRpZXMvcmVhZCI6W3t9XX0sInRp"
    "bnljbG91ZDpwa2g6ZWlwMTU1OjE6MHhmMzlGZDZlNTFhYWQ4OEY2RjRjZTZhQjg4MjcyNzljZmZGYjkyMjY2OmRlZmF1bHQva3Yi"
    "OnsidGlueWNsb3VkLmt2L2RlbCI6W3t9XSwidGlueWNsb3VkLmt2L2dldCI6W3t9XSwidGlueWNsb3VkLmt2L2xpc3QiOlt7fV0s"
    "InRpbnljbG91ZC5rdi9tZXRhZGF0YSI6W3t9XSwidGlueWNsb3VkLmt2L3B1dCI6W3t9XX19LCJwcmYiOltdfQ"
)
SESSION_DIGEST = "12c4d05f4239a132a73570e8861af7d1eff84fb9b725c42990140d5a4dc9e0e0"
SESSION_SIGNATURE = (
    "9eda090982d551a785177099cceb0866fe7d2544e68d1f6d11c90794a1d86492"
    "729071e48010c02a6f4c5588fb2127bdfd3b509176f58514108408abb0e541611c"
)
SESSION_CID = "bafkr4ieuinpc2jtz3qh3qhox7klp6paecq6kibj35rxn7xf6nwczhmm54y"
SESSION_HEADER = (
    "o2FooWF0Z2VpcDQzNjFhcKljYXVkeGlkaWQ6a2V5Ono2TWtlaFJnZjd5SmJnYUdmWXNkb0FzS2RCUEUzZGoyQ1lob3dRZGNqcVNK"
    "Z3ZWZCN6Nk1rZWhSZ2Y3eUpiZ2FHZllzZG9Bc0tkQlBFM2RqMkNZaG93UWRjanFTSmd2VmRjZXhweBgyMDM2LTAxLTAyVDAzOjA0"
    "OjA1LjAwMFpjaWF0eBgyMDI2LTAxLTAyVDAzOjA0OjA1LjAwMFpjaXNzeDtkaWQ6cGtoOmVpcDE1NToxOjB4ZjM5RmQ2ZTUxYWFk"
    "ODhGNkY0Y2U2YUI4ODI3Mjc5Y2ZmRmI5MjI2NmVub25jZW1zZXNzbm9uY2UwMDAxZmRvbWFpbmthcHAuZXhhbXBsZWd2ZXJzaW9u"
    "AWlyZXNvdXJjZXOBeQHkdXJuOnJlY2FwOmV5SmhkSFFpT25zaWRHbHVlV05zYjNWa09uQnJhRHBsYVhBeE5UVTZNVG93ZUdZek9V"
    "WmtObVUxTVdGaFpEZzRSalpHTkdObE5tRkNPRGd5TnpJM09XTm1aa1ppT1RJeU5qWTZaR1ZtWVhWc2RDOWpZWEJoWW1sc2FYUnBa"
    "WE12WVd4c0lqcDdJblJwYm5samJHOTFaQzVqWVhCaFltbHNhWFJwWlhNdmNtVmhaQ0k2VzN0OVhYMHNJblJwYm5samJHOTFaRHB3"
    "YTJnNlpXbHdNVFUxT2pFNk1IaG1NemxHWkRabE5URmhZV1E0T0VZMlJqUmpaVFpoUWpnNE1qY3lOemxqWm1aR1lqa3lNalkyT21S"
    "bFptRjFiSFF2YTNZaU9uc2lkR2x1ZVdOc2IzVmtMbXQyTDJSbGJDSTZXM3Q5WFN3aWRHbHVlV05zYjNWa0xtdDJMMmRsZENJNlcz"
    "dDlYU3dpZEdsdWVXTnNiM1ZrTG10MkwyeHBjM1FpT2x0N2ZWMHNJblJwYm5samJHOTFaQzVyZGk5dFpYUmhaR0YwWVNJNlczdDlY"
    "U3dpZEdsdWVXTnNiM1ZrTG10MkwzQjFkQ0k2VzN0OVhYMTlMQ0p3Y21ZaU9sdGRmUWlzdGF0ZW1lbnR5AWhJIGZ1cnRoZXIgYXV0"
    "aG9yaXplIHRoZSBzdGF0ZWQgVVJJIHRvIHBlcmZvcm0gdGhlIGZvbGxvd2luZyBhY3Rpb25zIG9uIG15IGJlaGFsZjogKDEpICd0"
    "aW55Y2xvdWQuY2FwYWJpbGl0aWVzJzogJ3JlYWQnIGZvciAndGlueWNsb3VkOnBraDplaXAxNTU6MToweGYzOUZkNmU1MWFhZDg4"
    "RjZGNGNlNmFCODgyNzI3OWNmZkZiOTIyNjY6ZGVmYXVsdC9jYXBhYmlsaXRpZXMvYWxsJy4gKDIpICd0aW55Y2xvdWQua3YnOiAn"
    "ZGVsJywgJ2dldCcsICdsaXN0JywgJ21ldGFkYXRhJywgJ3B1dCcgZm9yICd0aW55Y2xvdWQ6cGtoOmVpcDE1NToxOjB4ZjM5RmQ2"
    "ZTUxYWFkODhGNkY0Y2U2YUI4ODI3Mjc5Y2ZmRmI5MjI2NjpkZWZhdWx0L2t2Jy5hc6Jhc1hBntoJCYLVUaeFF3CZzOsIZv59JUTm"
    "jR9tEckHlKHYZJJykHHkgBDAKm9MVYj7ISe9_TtQkXb1hRQQhAirsOVBYRxhdGZlaXAxOTE="
)

INVOCATION_CID = "bafkr4ifpwnr5wg5wytpws3vpeixm6pgnjwuklkmwx3edbzeckhwyj2avu4"
INVOCATION = (
    "eyJhbGciOiJFZERTQSIsImp3ayI6eyJhbGciOiJFZERTQSIsImNydiI6IkVkMjU1MTkiLCJrdHkiOiJPS1AiLCJ4IjoiQTZFSHZf"
    "UE9FTDRkY04wWTUwdkFtV2ZrMWpDYnBRMWZIZHlHWkJKVk1iZyJ9LCJ0eXAiOiJKV1QiLCJ1Y3YiOiIwLjEwLjAifQ.eyJpc3MiO"
    "iJkaWQ6a2V5Ono2TWtlaFJnZjd5SmJnYUdmWXNkb0FzS2RCUEUzZGoyQ1lob3dRZGNqcVNKZ3ZWZCN6Nk1rZWhSZ2Y3eUpiZ2FHZ"
    "llzZG9Bc0tkQlBFM2RqMkNZaG93UWRjanFTSmd2VmQiLCJhdWQiOiJkaWQ6a2V5Ono2TWtlaFJnZjd5SmJnYUdmWXNkb0FzS2RCU"
    "EUzZGoyQ1lob3dRZGNqcVNKZ3ZWZCIsImV4cCI6MTc2NzMyMzE2NSwibm5jIjoidXJuOnV1aWQ6MDAwMDAwMDAtMDAwMC00MDAwL"
    "TgwMDAtMDAwMDAwMDAwMDAxIiwicHJmIjpbImJhZmtyNGlldWlucGMyanR6M3FoM3Fob3g3a2xwNnBhZWNxNmtpYmozNXJ4bjd4Z"
    "jZud2N6aG1tNTR5Il0sImF0dCI6eyJ0aW55Y2xvdWQ6cGtoOmVpcDE1NToxOjB4ZjM5RmQ2ZTUxYWFkODhGNkY0Y2U2YUI4ODI3M"
    "jc5Y2ZmRmI5MjI2NjpkZWZhdWx0L2t2L2hlbGxvLnR4dCI6eyJ0aW55Y2xvdWQua3YvcHV0Ijpbe31dfX19.5RL9yOyws1Savy9J"
    "1Hr8lEWh1iBTeTd-_a0f1OA4nGLWhuYYvN98MwinaQK7IHdAHcLeBwldTraAT8Sqgwa3Bg"
)

DELEGATION_CID = "bafkr4iderae7rsn7frgfe6xkbywokgj23rrhqchtaznxf4uelx536tbara"
DELEGATION = (
    "eyJhbGciOiJFZERTQSIsImp3ayI6eyJhbGciOiJFZERTQSIsImNydiI6IkVkMjU1MTkiLCJrdHkiOiJPS1AiLCJ4IjoiQTZFSHZf"
    "UE9FTDRkY04wWTUwdkFtV2ZrMWpDYnBRMWZIZHlHWkJKVk1iZyJ9LCJ0eXAiOiJKV1QiLCJ1Y3YiOiIwLjEwLjAifQ.eyJpc3MiO"
    "iJkaWQ6a2V5Ono2TWtlaFJnZjd5SmJnYUdmWXNkb0FzS2RCUEUzZGoyQ1lob3dRZGNqcVNKZ3ZWZCN6Nk1rZWhSZ2Y3eUpiZ2FHZ"
    "llzZG9Bc0tkQlBFM2RqMkNZaG93UWRjanFTSmd2VmQiLCJhdWQiOiJkaWQ6a2V5Ono2TWtoRndYTkZXb3NMZXVndlNmNHdjTDl0M"
    "3V1Ulh1ZUdTRlRSZ1N2SGhXajVHMiIsImV4cCI6MTk5OTk5OTk5OSwibm5jIjoidXJuOnV1aWQ6MDAwMDAwMDAtMDAwMC00MDAwL"
    "TgwMDAtMDAwMDAwMDAwMDAyIiwicHJmIjpbImJhZmtyNGlldWlucGMyanR6M3FoM3Fob3g3a2xwNnBhZWNxNmtpYmozNXJ4bjd4Z"
    "jZud2N6aG1tNTR5Il0sImF0dCI6eyJ0aW55Y2xvdWQ6cGtoOmVpcDE1NToxOjB4ZjM5RmQ2ZTUxYWFkODhGNkY0Y2U2YUI4ODI3M"
    "jc5Y2ZmRmI5MjI2NjpkZWZhdWx0L2t2L3NoYXJlZCI6eyJ0aW55Y2xvdWQua3YvZ2V0Ijpbe31dLCJ0aW55Y2xvdWQua3YvbGlzd"
    "CI6W3t9XX19fQ.H5ZMtiE2UbX42Q-NcbkfoG9YEQhV11OwEfBF9GNh0NZ4pw32Ar_MVmtYQ1Dk9yfwwD6GmvBQX_3PdKikWvdbAw"
)
